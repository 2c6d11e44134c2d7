-- put.lua: a node says what it knows of a session of its own.
-- KEYS: session
-- ARGV: node, ttl ms, then fields and values
-- returns {0, turn}; {1, turn} when it had been parked meanwhile (this node was given up for dead); {2} when it is another node's now: nothing
-- was done; {3} when somebody is ending it right now: nothing was done
local s = redis.call('HMGET', KEYS[1], 'node', 'state')
if s[1] and s[1] ~= ARGV[1] then return {2} end
if s[2] == 'ending' then return {3} end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'state', 'active', unpack(ARGV, 3))
redis.call('HDEL', KEYS[1], 'parked_until')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {s[2] == 'parked' and 1 or 0, turn_of(KEYS[1])}
