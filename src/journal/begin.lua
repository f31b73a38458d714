--[[
  A new ingest takes over a journal: raises the epoch, which fences the one before it.

  KEYS  1 state, 2 fence
  ARGV  1 journal id, 2 holder (worker id)
  Returns {'ok', epoch, head, position, lanes, generation, headTimeMs, tail of lane 0, tail of lane 1 ...}
          {'fenced', id} when another journal is in force; {'missing'} when there is none
]]
local state = redis.call('HMGET', KEYS[1], 'id', 'lanes', 'generation', 'head', 'position', 'headTimeMs')
if not state[1] or not state[2] or not state[4] then return {'missing'} end
if state[1] ~= ARGV[1] then return {'fenced', state[1]} end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'backpressure', '0')
redis.call('SET', KEYS[2], epoch .. ':' .. state[4])
local reply = {'ok', epoch, state[4], state[5] or '', state[2], state[3], state[6] or '0'}
for lane = 0, tonumber(state[2]) - 1 do
  reply[#reply + 1] = redis.call('HGET', KEYS[1], 'tail:' .. lane) or '0'
end
return reply
