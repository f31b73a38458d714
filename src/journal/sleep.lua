--[[
  A lane's job wants to end: only if nothing has been appended behind what it saw.

  KEYS  1 state
  ARGV  1 journal id, 2 lane, 3 seq that it saw as the tail, 4 'idle', or 'gate' (parked: the gate's end wakes it)
  Returns 1 when the lane now sleeps, 0 when there is more to do.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 1 end
if ARGV[4] == 'gate' then
  redis.call('HSET', KEYS[1], 'awake:' .. ARGV[2], 'gate')
  return 1
end
if tonumber(redis.call('HGET', KEYS[1], 'tail:' .. ARGV[2]) or '0') > tonumber(ARGV[3]) then return 0 end
redis.call('HDEL', KEYS[1], 'awake:' .. ARGV[2])
return 1
