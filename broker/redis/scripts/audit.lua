-- audit.lua: what the store has of a session, for the node that has it open.
-- KEYS: session
-- ARGV: node
-- returns {1, field `room:…` …}; {0}: no such session, or one that is parked or being ended; {2}: it is another node's
local s = redis.call('HMGET', KEYS[1], 'node', 'state')
if not s[1] then return {0} end
if s[1] ~= ARGV[1] then return {2} end
if s[2] ~= 'active' then return {0} end
return add_rooms({1}, KEYS[1])
