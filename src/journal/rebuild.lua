--[[
  Wipes the journal and creates it anew behind a resume position.

  KEYS  1 state, 2 positions, 3 gates, 4 gate commands, 5 room, 6 fence, 7.. every lane log, old and new
  ARGV  1 id that it replaces ('' = there must be none), 2 epoch that it replaces, 3 new id, 4 generation,
        5 lanes, 6 head (seq before the position), 7 position, 8 holder, 9 time of that position (ms),
        10 .. tails, one per lane
  Returns {'ok', epoch} or {'fenced', id, epoch}
]]
local state = redis.call('HMGET', KEYS[1], 'id', 'epoch')
if (state[1] or '') ~= ARGV[1] or (ARGV[1] ~= '' and state[2] ~= ARGV[2]) then
  return {'fenced', state[1] or '', state[2] or ''}
end
local epoch = (tonumber(state[2]) or 0) + 1
redis.call('UNLINK', unpack(KEYS))
local fields = {'id', ARGV[3], 'epoch', epoch, 'generation', ARGV[4], 'lanes', ARGV[5], 'head', ARGV[6],
  'position', ARGV[7], 'holder', ARGV[8], 'headTimeMs', ARGV[9], 'backpressure', '0',
  'startSeq', ARGV[6], 'startPosition', ARGV[7], 'rebuiltAtEpoch', epoch}
for lane = 0, tonumber(ARGV[5]) - 1 do
  local tail = ARGV[10 + lane]
  fields[#fields + 1] = 'tail:' .. lane
  fields[#fields + 1] = tail
  fields[#fields + 1] = 'seen:' .. lane
  fields[#fields + 1] = tail
end
local tails = {}
for lane = 0, tonumber(ARGV[5]) - 1 do tails[lane + 1] = ARGV[10 + lane] end
fields[#fields + 1] = 'startTails'
fields[#fields + 1] = table.concat(tails, ',')
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('SET', KEYS[6], epoch .. ':' .. ARGV[6])
if ARGV[6] ~= '0' then
  redis.call('XADD', KEYS[2], ARGV[6] .. '-0', 'p', ARGV[7], 't', table.concat(tails, ','))
end
return {'ok', epoch}
