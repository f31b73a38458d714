--[[
  One consistent look at the journal, given the checkpoints that the target had a moment ago. An item of hundreds of MiB
  is not read for its header: its commit has noted it (round-writer.ts).

  KEYS  1 state, 2 lane log 0, 3 lane log 1 ...
  ARGV  checkpoint (seq) per lane, lane 0 first
  Returns {'missing'} or
    {'ok', id, epoch, generation, lanes, head, position, headTimeMs, holder, backpressure, rebuiltAtEpoch, out:g, in:g,
      then per lane {tail, in, out, seen, awake, id of the next item, its header, header of the last item at or before ck}}
]]
local state = redis.call('HMGET', KEYS[1], 'id', 'epoch', 'generation', 'lanes', 'head', 'position', 'headTimeMs',
  'holder', 'backpressure', 'rebuiltAtEpoch', 'out:g', 'in:g')
if not state[1] or not state[4] or not state[5] then return {'missing'} end
local reply = {'ok'}
for i = 1, 12 do reply[#reply + 1] = state[i] or '' end
local lanes = math.min(tonumber(state[4]), #KEYS - 1)
for lane = 0, lanes - 1 do
  local own = redis.call('HMGET', KEYS[1], 'tail:' .. lane, 'in:' .. lane, 'out:' .. lane, 'seen:' .. lane, 'awake:' .. lane,
    'heavy:' .. lane)
  local row = {own[1] or '0', own[2] or '0', own[3] or '0', own[4] or '', own[5] or ''}
  if tonumber(ARGV[lane + 1]) < tonumber(row[1]) then
    local seq, header = string.match(own[6] or '', '\n' .. ARGV[lane + 1] .. ' (%d+) ([^\n]+)')
    if seq and redis.call('EXISTS', KEYS[lane + 2]) == 1 then
      row[6] = seq .. '-0'
      row[7] = header
    else
      local next = redis.call('XRANGE', KEYS[lane + 2], '(' .. ARGV[lane + 1] .. '-0', '+', 'COUNT', 1)
      if next[1] then
        row[6] = next[1][1]
        row[7] = next[1][2][2]
      end
    end
  end
  reply[#reply + 1] = row
end
return reply
