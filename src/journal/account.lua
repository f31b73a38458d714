-- What a lane, or the gate ('g'), has done through a seq whose replies are read; wakes an ingest that waits for room.
-- Step: 1 lane or 'g', 2 seq, 3 bytes of its log behind it, 4 commands applied, 5 unapplied bytes below which ingest is woken
local function account(state, counters, room, step)
  local where = step[1]
  if step[4] ~= '0' then redis.call('HINCRBY', counters, 'applied', step[4]) end
  local before = redis.call('HMGET', state, 'seen:' .. where, 'out:' .. where, 'backpressure', 'lanes')
  if where ~= 'g' and tonumber(before[1] or '-1') < tonumber(step[2]) then
    redis.call('HSET', state, 'seen:' .. where, step[2])
  end
  if tonumber(before[2] or '0') < tonumber(step[3]) then redis.call('HSET', state, 'out:' .. where, step[3]) end
  if before[3] ~= '1' then return end
  local sums = {'in:g', 'out:g'}
  for l = 0, tonumber(before[4]) - 1 do
    sums[#sums + 1] = 'in:' .. l
    sums[#sums + 1] = 'out:' .. l
  end
  local totals = redis.call('HMGET', state, unpack(sums))
  local unapplied = 0
  for i = 1, #totals, 2 do unapplied = unapplied + (tonumber(totals[i]) or 0) - (tonumber(totals[i + 1]) or 0) end
  if unapplied < tonumber(step[5]) and redis.call('LLEN', room) == 0 then redis.call('LPUSH', room, '1') end
end
