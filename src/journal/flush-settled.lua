--[[
  The gate that a flush was recorded for is closed. Its sentinel stays, so that nobody takes two looks for one.

  KEYS  1 intent
  ARGV  1 its sentinel
  Returns 1 when the record was there.
]]
if redis.call('HGET', KEYS[1], 'sentinel') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'record')
