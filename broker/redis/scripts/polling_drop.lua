-- polling_drop.lua: a connection by long-polling is over, or goes on as a WebSocket, which nobody can take over.
-- KEYS: the connection
-- ARGV: this node
-- returns 1 if it was this node's
if redis.call('HGET', KEYS[1], 'node') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
