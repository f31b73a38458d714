--[[
  A gate is about to send a FLUSHDB that erases the control keys of the target and cannot write them again in the same
  step: what they are to be afterwards is recorded first.

  KEYS  1 state, 2 intent
  ARGV  1 journal id, 2 generation, 3 seq of the gate, 4 sentinel of the newest record, settled or not ('' = there was none),
        5 sentinel, 6 record
  Returns 1 when it is recorded, 0 when another journal is in force, or somebody else was here meanwhile.
]]
local state = redis.call('HMGET', KEYS[1], 'id', 'generation')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then return 0 end
local before = redis.call('HMGET', KEYS[2], 'generation', 'gate', 'sentinel', 'record')
if (before[3] or '') ~= ARGV[4] then return 0 end
-- A gate that was held up must not replace the record of a later one.
if before[4] and before[1] == ARGV[2] and tonumber(before[2]) > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[2], 'generation', ARGV[2], 'gate', ARGV[3], 'sentinel', ARGV[5], 'record', ARGV[6])
return 1
