-- forget.lua: the last step of ending a session.
-- KEYS: session
-- returns 1 if it was removed
if redis.call('HGET', KEYS[1], 'state') ~= 'ending' then return 0 end
return redis.call('DEL', KEYS[1])
