-- touch.lua: changes fields of a session and renews its time to live, but never brings one back that is gone.
-- KEYS: session
-- ARGV: ttl ms, then fields and values
-- returns 1, or 0 when there is no such session
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
