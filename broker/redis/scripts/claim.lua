-- claim.lua: one node takes it upon itself to clean up after a dead one; called again for every page of sessions.
-- KEYS: node, its sessions, lost sessions, the reaper's lock
-- ARGV: who claims, ttl of the lock ms, how many sessions
-- returns {state, session…}; state 0: that node lives, -1: somebody else is at it, 1: clean these up and remove them from the lost ones,
-- 2: nothing is left, the lock is released
local me = ARGV[1]
if redis.call('EXISTS', KEYS[1]) == 1 then
    if redis.call('GET', KEYS[4]) == me then redis.call('DEL', KEYS[4]) end
    if redis.call('EXISTS', KEYS[3]) == 0 then return {0} end
end
local owner = redis.call('GET', KEYS[4])
if owner and owner ~= me then return {-1} end
redis.call('SET', KEYS[4], me, 'PX', ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2]) == 1 then
    -- Taken in one step: what that node adds from now on, should it come back, is not ours to clean up.
    redis.call('SUNIONSTORE', KEYS[3], KEYS[3], KEYS[2])
    redis.call('DEL', KEYS[2])
end
redis.call('SREM', KEYS[3], '-')
local page = redis.call('SRANDMEMBER', KEYS[3], ARGV[3])
if #page == 0 then
    redis.call('DEL', KEYS[4])
    return {2}
end
return {1, unpack(page)}
