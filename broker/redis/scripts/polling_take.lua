-- polling_take.lua: a connection by long-polling becomes this node's, unless another one was faster.
-- KEYS: the connection
-- ARGV: this node, the node whose it was when we looked
-- returns {this node, state, before, answered}; {the node whose it is by now}; {} when there is no such connection
local c = redis.call('HMGET', KEYS[1], 'node', 'state', 'before', 'answered')
if not c[1] then return {} end
if c[1] ~= ARGV[1] and c[1] ~= ARGV[2] then return {c[1]} end
redis.call('HSET', KEYS[1], 'node', ARGV[1])
return {ARGV[1], c[2] or '', c[3] or '', c[4] or ''}
