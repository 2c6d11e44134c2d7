-- touch.lua: changes fields of a session and renews its time to live, but never brings one back that is gone.
-- KEYS: session
-- ARGV: node, ttl ms, then fields and values
-- returns 1, 0 when there is no such session, 2 when it is another node's: nothing was done; 3 when this node was given up for dead and
-- the session is parked: the fields are changed (rooms must be known to whoever ends it), but it lives no longer for that
local s = redis.call('HMGET', KEYS[1], 'node', 'state')
if not s[1] then return 0 end
if s[1] ~= ARGV[1] then return 2 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
if s[2] ~= 'active' then return 3 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
