-- park.lua: a session's connection, or its node, is gone; whoever presents its token in time may have it. Parking it twice is as good as once.
-- KEYS: session
-- ARGV: its node, window ms (empty: its own), when the window began (0: now), how long the hash outlives the window, ms
-- returns {when the window ends, turn, user}; {0} when it is not that node's session
local s = redis.call('HMGET', KEYS[1], 'node', 'state', 'parked_until', 'resume_window', 'user')
if s[1] ~= ARGV[1] then return {0} end
if s[2] ~= 'active' and tonumber(s[3]) then return {tonumber(s[3]), turn_of(KEYS[1]), s[5] or ''} end
local time = now()
local from = tonumber(ARGV[3])
if from == 0 then from = time end
local till = from + (tonumber(ARGV[2]) or tonumber(s[4]) or 0)
redis.call('HSET', KEYS[1], 'state', 'parked', 'parked_until', till)
redis.call('PEXPIRE', KEYS[1], math.max(till - time, 0) + ARGV[4])
return {till, turn_of(KEYS[1]), s[5] or ''}
