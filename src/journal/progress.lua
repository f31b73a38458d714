--[[
  A lane (or the gate) has read every reply through a seq.

  KEYS  1 state, 2 counters, 3 room
  ARGV  1 journal id, 2 lane or 'g', 3 seq, 4 bytes of its log behind it, 5 commands applied, 6 gates executed,
        7 unapplied bytes below which a waiting ingest is woken
  Returns 1, or 0 when the journal is another one.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
local lane = ARGV[2]
if ARGV[5] ~= '0' then redis.call('HINCRBY', KEYS[2], 'applied', ARGV[5]) end
if ARGV[6] ~= '0' then redis.call('HINCRBY', KEYS[2], 'gates', ARGV[6]) end
local before = redis.call('HMGET', KEYS[1], 'seen:' .. lane, 'out:' .. lane, 'backpressure', 'lanes')
if lane ~= 'g' and tonumber(before[1] or '-1') < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'seen:' .. lane, ARGV[3])
end
if tonumber(before[2] or '0') < tonumber(ARGV[4]) then redis.call('HSET', KEYS[1], 'out:' .. lane, ARGV[4]) end
if before[3] == '1' then
  local sums = {'in:g', 'out:g'}
  for l = 0, tonumber(before[4]) - 1 do
    sums[#sums + 1] = 'in:' .. l
    sums[#sums + 1] = 'out:' .. l
  end
  local totals = redis.call('HMGET', KEYS[1], unpack(sums))
  local unapplied = 0
  for i = 1, #totals, 2 do unapplied = unapplied + (tonumber(totals[i]) or 0) - (tonumber(totals[i + 1]) or 0) end
  if unapplied < tonumber(ARGV[7]) and redis.call('LLEN', KEYS[3]) == 0 then redis.call('LPUSH', KEYS[3], '1') end
end
return 1
