-- audit.lua: what the store has of a session, for the node that has it open.
-- KEYS: session
-- ARGV: node, when it got the session, as last told
-- returns {1, field `room:…` …}; {0}: no such session, or one that is parked or being ended, or another node's, which got it earlier: Redis has
-- forgotten some of it; {2}: it is another node's
local s = redis.call('HMGET', KEYS[1], 'node', 'state', 'taken')
if not s[1] then return {0} end
if s[1] ~= ARGV[1] then return {(tonumber(s[3]) or 0) < tonumber(ARGV[2]) and 0 or 2} end
if s[2] ~= 'active' then return {0} end
return add_rooms({1}, KEYS[1])
