--[[
  Appends one round to the journal: all of it or nothing.

  KEYS  1 state, 2 positions, 3 gates, 4 gate commands, 5 counters, 6 dead letters, 7.. lane logs (lane 0 first)
  ARGV  1 journal id, 2 epoch, 3 head that the caller last saw, 4 new head (last seq of the round),
        5 source position behind the round, 6 time of its last command (ms), 7 commands ignored in it,
        8 commands in it whose effect the log does not fix, 9 number of items; then per item five:
          where ('<lane>', 'g' = gate log, 'd' = dead letters), seq, header, index, commands

  Returns {'ok', unapplied bytes, lanes without a job that is awake ...}
          {'repeated', ...same} when this very round is already in (a re-sent script)
          {'fenced', id, epoch, head} when another journal, ingest or head is in force
          {'missing'} when there is no journal
]]
local state = redis.call('HMGET', KEYS[1], 'id', 'epoch', 'head')
if not state[1] or not state[2] or not state[3] then return {'missing'} end
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then return {'fenced', state[1], state[2], state[3]} end

local lanes = #KEYS - 6
local repeated = state[3] == ARGV[4] and ARGV[3] ~= ARGV[4]
if state[3] ~= ARGV[3] and not repeated then return {'fenced', state[1], state[2], state[3]} end

-- What weighs more must not pass through a script again only for its header (snapshot.lua): one line per item,
-- 'seq before it, seq, header', until it is applied.
local heavyBytes = 4194304
local function noteHeavy(lane, seq, header)
  local known = redis.call('HMGET', KEYS[1], 'heavy:' .. lane, 'seen:' .. lane)
  local lines = '\n'
  for line in string.gmatch(known[1] or '', '[^\n]+') do
    if tonumber(string.match(line, '^%d+ (%d+)')) > (tonumber(known[2]) or 0) then lines = lines .. line .. '\n' end
  end
  local previous = string.match(header, '^%S+ %S+ (%d+)')
  redis.call('HSET', KEYS[1], 'heavy:' .. lane, lines .. previous .. ' ' .. seq .. ' ' .. header .. '\n')
end

local touched = {}
local items = tonumber(ARGV[9])
for i = 0, items - 1 do
  local at = 10 + i * 5
  local where, seq, header, index, commands = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if where == 'd' then
    if not repeated then
      redis.call('XADD', KEYS[6], '*', 'record', header, 'commands', commands)
      redis.call('HINCRBY', KEYS[5], 'deadLettered', 1)
    end
  elseif where == 'g' then
    if not repeated then
      local before = redis.call('HGET', KEYS[1], 'in:g') or '0'
      redis.call('XADD', KEYS[3], seq .. '-0', 'h', header .. ' ' .. before)
      redis.call('XADD', KEYS[4], seq .. '-0', 'i', index, 'c', commands)
      redis.call('HINCRBY', KEYS[1], 'in:g', #commands + #index + 128)
    end
  else
    touched[where] = true
    if not repeated then
      local before = redis.call('HGET', KEYS[1], 'in:' .. where) or '0'
      local log = KEYS[7 + tonumber(where)]
      if commands == '' then
        -- A marker weighs nothing: nobody reports it as behind, and its gate is counted.
        redis.call('XADD', log, seq .. '-0', 'h', header .. ' ' .. before)
      else
        redis.call('XADD', log, seq .. '-0', 'h', header .. ' ' .. before, 'i', index, 'c', commands)
        redis.call('HINCRBY', KEYS[1], 'in:' .. where, #commands + #index + 128)
        if #commands > heavyBytes then noteHeavy(where, seq, header .. ' ' .. before) end
      end
      redis.call('HSET', KEYS[1], 'tail:' .. where, seq)
    end
  end
end

local fields = {}
for lane = 0, lanes - 1 do fields[#fields + 1] = 'tail:' .. lane end
local tails = redis.call('HMGET', KEYS[1], unpack(fields))
if not repeated then
  for lane = 1, lanes do tails[lane] = tails[lane] or '0' end
  redis.call('XADD', KEYS[2], ARGV[4] .. '-0', 'p', ARGV[5], 't', table.concat(tails, ','))
  redis.call('HSET', KEYS[1], 'head', ARGV[4], 'position', ARGV[5], 'headTimeMs', ARGV[6])
  if ARGV[7] ~= '0' then redis.call('HINCRBY', KEYS[5], 'ignored', ARGV[7]) end
  if ARGV[8] ~= '0' then redis.call('HINCRBY', KEYS[5], 'undetermined', ARGV[8]) end
end

local sums = {'in:g', 'out:g'}
for lane = 0, lanes - 1 do
  sums[#sums + 1] = 'in:' .. lane
  sums[#sums + 1] = 'out:' .. lane
end
local totals = redis.call('HMGET', KEYS[1], unpack(sums))
local unapplied = 0
for i = 1, #totals, 2 do unapplied = unapplied + (tonumber(totals[i]) or 0) - (tonumber(totals[i + 1]) or 0) end

local reply = {repeated and 'repeated' or 'ok', unapplied}
for lane = 0, lanes - 1 do
  if touched[tostring(lane)] and not redis.call('HGET', KEYS[1], 'awake:' .. lane) then reply[#reply + 1] = lane end
end
return reply
