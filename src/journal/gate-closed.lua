--[[
  A gate has executed and its replies are read: accounts for it and wakes its lanes. Where they have been stopped behind
  it, they are to look at that first: the journal that they are told is none of theirs.

  KEYS  1 state, 2 counters, 3 room, 4 arrivals of the gate, 5 closed gates
  ARGV  1 journal id, 2 seq of the gate, 3 bytes of the gate log behind it, 4 commands applied,
        5 unapplied bytes below which a waiting ingest is woken, 6 '1' where its lanes have been stopped,
        7.. lanes of the gate
  Returns the lanes that have more behind the gate and no job that is awake, or nil when the journal is another one.
]]
-- include account
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return nil end
redis.call('HINCRBY', KEYS[2], 'gates', 1)
redis.call('DEL', KEYS[4])
account(KEYS[1], KEYS[2], KEYS[3], {'g', ARGV[2], ARGV[3], ARGV[4], ARGV[5]})
local asleep = {}
local lanes = {}
for i = 7, #ARGV do
  local lane = ARGV[i]
  lanes[#lanes + 1] = lane
  local own = redis.call('HMGET', KEYS[1], 'seen:' .. lane, 'tail:' .. lane, 'awake:' .. lane)
  if tonumber(own[1] or '-1') < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'seen:' .. lane, ARGV[2]) end
  if own[3] == 'gate' then redis.call('HDEL', KEYS[1], 'awake:' .. lane) end
  if own[3] ~= '1' and tonumber(own[2] or '0') > tonumber(ARGV[2]) then asleep[#asleep + 1] = lane end
end
local journal = ARGV[6] == '1' and '' or ARGV[1]
redis.call('XADD', KEYS[5], 'MAXLEN', 64, '*', 'gate', ARGV[2], 'journal', journal, 'lanes', table.concat(lanes, ','))
return asleep
