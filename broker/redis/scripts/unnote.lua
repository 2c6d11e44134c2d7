-- unnote.lua: a session has left a room. If another node has taken it over meanwhile, what its hash says of rooms is that node's business.
-- KEYS: session
-- ARGV: node, field
-- returns 1 if the field was removed
if redis.call('HGET', KEYS[1], 'node') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[2])
