--[[
  A lane (or the gate) has read every reply through a seq.

  KEYS  1 state, 2 counters, 3 room
  ARGV  1 journal id, 2.. the step (account.lua)
  Returns 1, or 0 when the journal is another one.
]]
-- include account
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
account(KEYS[1], KEYS[2], KEYS[3], {unpack(ARGV, 2)})
return 1
