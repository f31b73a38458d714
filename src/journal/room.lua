--[[
  Is there room for more? While there is not, progress.lua pushes to the room list when there is.

  KEYS  1 state, 2 room
  ARGV  1 journal id, 2 lanes, 3 unapplied bytes below which there is room
  Returns unapplied bytes, or nil when the journal is another one.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return nil end
local sums = {'in:g', 'out:g'}
for lane = 0, tonumber(ARGV[2]) - 1 do
  sums[#sums + 1] = 'in:' .. lane
  sums[#sums + 1] = 'out:' .. lane
end
local totals = redis.call('HMGET', KEYS[1], unpack(sums))
local unapplied = 0
for i = 1, #totals, 2 do unapplied = unapplied + (tonumber(totals[i]) or 0) - (tonumber(totals[i + 1]) or 0) end
redis.call('HSET', KEYS[1], 'backpressure', unapplied < tonumber(ARGV[3]) and '0' or '1')
redis.call('DEL', KEYS[2])
return unapplied
