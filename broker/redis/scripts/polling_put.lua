-- polling_put.lua: what another node needs to go on with a connection by long-polling.
-- KEYS: the connection
-- ARGV: this node, state, before, answered, for how long it is kept, ms
-- returns '', or the node whose it is by now
local node = redis.call('HGET', KEYS[1], 'node')
if node and node ~= ARGV[1] then return node end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'state', ARGV[2], 'before', ARGV[3], 'answered', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return ''
