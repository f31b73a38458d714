--[[
  A lane stands at its marker. Says whether the gate may be worth a try from here: all of its lanes have arrived and
  nobody else is at it. A hint that saves work: whether the gate may really execute is for the target's checkpoints.

  KEYS  1 state, 2 arrivals of the gate, 3 claim of the gate
  ARGV  1 journal id, 2 lane, 3 number of lanes of the gate (0: unknown yet), 4 worker, 5 claim (ms), 6 arrivals kept (ms)
  Returns 'try' (the claim is taken for the caller), 'wait', or 'void' when the journal is another one.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'void' end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[3]) and redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5], 'NX') then
  return 'try'
end
return 'wait'
