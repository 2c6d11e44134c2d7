-- heartbeat.lua: a node says that it lives.
-- KEYS: node, its sessions, lost sessions, the reaper's lock
-- ARGV: lease ms, 1 if this node has been registered before, then fields and values
-- returns {state, time ms}; state 0: as before, 1: registered anew because it had been given up for dead (its sessions are gone),
-- 2: it is being cleaned up right now and must try again
-- The member '-' of the sessions goes with them when a reaper takes them (or somebody empties Redis): that is how we know.
local time = now()
local known = redis.call('SISMEMBER', KEYS[2], '-') == 1
if not known then
    if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then return {2, time} end
    redis.call('SADD', KEYS[2], '-')
end
redis.call('HSET', KEYS[1], 'heartbeat', time, unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if known or ARGV[2] == '0' then return {0, time} end
return {1, time}
