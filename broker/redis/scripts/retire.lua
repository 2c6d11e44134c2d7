-- retire.lua: a node leaves in order.
-- KEYS: node, its sessions
-- returns 1, or 0 when sessions are left that somebody else has to clean up
redis.call('DEL', KEYS[1])
local left = redis.call('SCARD', KEYS[2]) - redis.call('SISMEMBER', KEYS[2], '-')
if left > 0 then return 0 end
redis.call('DEL', KEYS[2])
return 1
