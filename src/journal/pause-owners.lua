--[[
  Brings a queue's pause in line with the records that own it, in one step: whoever looked first and paused or resumed then
  would undo what an operator decided in between. A pause that no record owns is left alone: it is an operator's as well,
  made in Bull Board.

  KEYS  1 pauses, 2 stops, 3 meta, 4 marker, 5 wait
  ARGV  1 queue name, 2 the place of its stop
  Returns 1 if the queue's state changed, else 0.
]]
local stopped = redis.call('HEXISTS', KEYS[1], ARGV[1] .. '|stop') == 1
local over = stopped and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0
if over then redis.call('HDEL', KEYS[1], ARGV[1] .. '|stop') end
local flag = redis.call('HGET', KEYS[3], 'paused')
if (stopped and not over) or redis.call('HEXISTS', KEYS[1], ARGV[1] .. '|operator') == 1 then
  if flag and flag ~= 'gate' then return 0 end
  redis.call('HSET', KEYS[3], 'paused', 1)
  redis.call('DEL', KEYS[4])
  return 1
end
if not over or not flag or flag == 'gate' then return 0 end
redis.call('HDEL', KEYS[3], 'paused')
if redis.call('LLEN', KEYS[5]) > 0 then redis.call('ZADD', KEYS[4], 0, '0') end
return 1
