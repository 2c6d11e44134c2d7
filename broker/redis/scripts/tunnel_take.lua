-- tunnel_take.lua: the URL of a tunnel is used: once.
-- KEYS: what it stands for
-- returns {session, whose it is}; {} when there is no such URL, or not any more
local o = redis.call('HMGET', KEYS[1], 'session', 'tunnel')
if not o[1] or not o[2] then return {} end
redis.call('DEL', KEYS[1])
return o
