-- give.lua: attributes that backends give a session, unless somebody else has changed them since they were read.
-- KEYS: session
-- ARGV: as they were (empty: none), as they shall be
-- returns 1; 0: no such session, 2: they have been changed
local s = redis.call('HMGET', KEYS[1], 'node', 'state', 'given')
if not s[1] or s[2] == 'ending' then return 0 end
if (s[3] or '') ~= ARGV[1] then return 2 end
redis.call('HSET', KEYS[1], 'given', ARGV[2])
return 1
