--[[
  Lanes of one process stand at their markers of a gate. Says whether the gate may be worth a try from here: all of its
  lanes have arrived and nobody else is at it. A hint that saves work: whether the gate may really execute is for the
  target's checkpoints. What a lane has done just before is told along with it.

  KEYS  1 state, 2 counters, 3 room, 4 arrivals of the gate, 5 claim of the gate
  ARGV  1 journal id, 2 number of lanes of the gate (0: unknown yet), 3 worker, 4 claim (ms), 5 arrivals kept (ms),
        6 number of steps, then the steps (account.lua), then the lanes that are here
  Returns 'try' (the claim is taken for the caller), 'wait', or 'void' when the journal is another one.
]]
-- include account
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'void' end
local at = 7
for _ = 1, tonumber(ARGV[6]) do
  account(KEYS[1], KEYS[2], KEYS[3], {unpack(ARGV, at, at + 4)})
  at = at + 5
end
redis.call('SADD', KEYS[4], unpack(ARGV, at))
redis.call('PEXPIRE', KEYS[4], ARGV[5])
if redis.call('SCARD', KEYS[4]) >= tonumber(ARGV[2]) and redis.call('SET', KEYS[5], ARGV[3], 'PX', ARGV[4], 'NX') then
  return 'try'
end
return 'wait'
