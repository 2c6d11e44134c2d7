-- put.lua: a node says what it knows of a session of its own.
-- KEYS: session
-- ARGV: node, ttl ms, when the node got the session, as last told (0: never), then fields and values
-- returns {0, turn}; {1, turn} when it had been parked meanwhile (this node was given up for dead); {2} when it is another node's now: nothing
-- was done; {3} when somebody is ending it right now: nothing was done
-- If the other node got it earlier than this one, then Redis has forgotten that it gave the session to this node.
local s = redis.call('HMGET', KEYS[1], 'node', 'state', 'taken')
if s[1] and s[1] ~= ARGV[1] and (tonumber(s[3]) or 0) >= tonumber(ARGV[3]) then return {2} end
if s[2] == 'ending' then return {3} end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'state', 'active', unpack(ARGV, 4))
redis.call('HDEL', KEYS[1], 'parked_until')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {s[2] == 'parked' and 1 or 0, take(KEYS[1])}
