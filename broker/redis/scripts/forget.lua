-- forget.lua: removes a session, unless another node has taken it over.
-- KEYS: session
-- ARGV: node
-- returns 1 if it was removed
local node = redis.call('HGET', KEYS[1], 'node')
if node and node ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
