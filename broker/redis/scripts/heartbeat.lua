-- heartbeat.lua: a node says that it lives.
-- KEYS: node, its sessions, lost sessions, the reaper's lock
-- ARGV: lease ms, then 0: it registers for the first time, 1: it is registered, or what it was told with the last 1 below; then fields and values
-- returns {state, time ms, since}; state 0: as before, 1: it had been given up for dead and its sessions are gone (we say so since then), 2: it is being
-- cleaned up right now and must try again
-- The member '-' of the sessions goes with them when a reaper takes them (or somebody empties Redis): that is how we know. It is there again only when the
-- node has said that it knows: an answer may be lost. What it says so with goes with the node's hash, so before it could be given up once more.
local time = now()
local known = redis.call('SISMEMBER', KEYS[2], '-') == 1
local anew
if not known then
    if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then return {2, time, 0} end
    redis.call('HSETNX', KEYS[1], 'anew', time)
    anew = redis.call('HGET', KEYS[1], 'anew')
    known = ARGV[2] == '0' or ARGV[2] == anew
    if known then
        redis.call('SADD', KEYS[2], '-')
        redis.call('HDEL', KEYS[1], 'anew')
    end
end
redis.call('HSET', KEYS[1], 'heartbeat', time, unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if known then return {0, time, 0} end
return {1, time, tonumber(anew)}
