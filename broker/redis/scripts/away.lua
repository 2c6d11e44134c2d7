-- away.lua: notes that a session which nobody has at the moment shall be in a room, or looks whether it is in one that it shall leave.
-- KEYS: session
-- ARGV: field, most rooms it may be in (0: it shall leave), since (ms)
-- returns {what, node, user}: 1: go on, 0: no such session, 2: somebody has it, 3: it is in enough rooms, 4: it is not in this room
local s = redis.call('HMGET', KEYS[1], 'node', 'state', 'user')
if not s[1] or s[2] == 'ending' then return {0} end
if s[2] ~= 'parked' then return {2} end
local most = tonumber(ARGV[2])
if redis.call('HGET', KEYS[1], ARGV[1]) then return {1, s[1], s[3] or ''} end
if most == 0 then return {4} end
if #add_rooms({}, KEYS[1]) >= most then return {3} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return {1, s[1], s[3] or ''}
