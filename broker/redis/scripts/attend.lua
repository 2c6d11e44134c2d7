-- attend.lua: what has become of a session, told in the directory of its user: is he there, and on how many devices? Who watches him hears of a change.
-- KEYS: user (a set of sessions), its presence
-- ARGV: channel, session, state (active, parked, gone), the session's turn, ttl ms, how long it is kept who was there, ms, envelope
-- returns 1; 0 when it comes so late that the session may be gone by now: nothing was done
-- News of one session may come in any order: the newer turn counts. What is gone is remembered for as long as older news of it is believed.
local LATE, REMEMBERED = 120000, 300000
local time, sid, state, turn = now(), ARGV[2], ARGV[3], tonumber(ARGV[4])
local field = 'session:' .. sid
local before, was = string.match(redis.call('HGET', KEYS[2], field) or '', '^(%d+) (%a+)$')
if before and tonumber(before) > turn then return 1 end
if not before and turn + LATE < time and state ~= 'gone' then return 0 end

local p = redis.call('HMGET', KEYS[2], 'state', 'sessions', 'suspended', 'version', 'sweep')
local suspended = tonumber(p[3]) or 0
if was == 'parked' then suspended = suspended - 1 end
if state == 'parked' then suspended = suspended + 1 end
if state == 'gone' then
    redis.call('SREM', KEYS[1], sid)
    -- A few of those that were remembered long enough; the hash is walked round and round.
    local page = redis.call('HSCAN', KEYS[2], p[5] or '0', 'COUNT', 16)
    redis.call('HSET', KEYS[2], 'sweep', page[1])
    for i = 1, #page[2], 2 do
        local old = tonumber(string.match(page[2][i + 1], '^(%d+) gone$'))
        if old and old + REMEMBERED < time then redis.call('HDEL', KEYS[2], page[2][i]) end
    end
else
    redis.call('SADD', KEYS[1], sid)
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
redis.call('HSET', KEYS[2], field, string.format('%.0f %s', turn, state))

-- Nodes of an older version keep the set alone: their sessions count as active.
local sessions = redis.call('SCARD', KEYS[1])
suspended = math.max(0, math.min(suspended, sessions))
local current = sessions == 0 and 'offline' or sessions > suspended and 'online' or 'suspended'
local old, count = p[1] or 'offline', tonumber(p[2]) or 0
redis.call('HSET', KEYS[2], 'state', current, 'sessions', sessions, 'suspended', suspended)
if current == 'online' or old == 'online' then redis.call('HSET', KEYS[2], 'last_seen', time) end
if current ~= old then redis.call('HSET', KEYS[2], 'since', time) end
redis.call('PEXPIRE', KEYS[2], ARGV[6] + (sessions > 0 and ARGV[5] or 0))
if current == old and sessions == count then return 1 end

local version = math.max(time, (tonumber(p[4]) or 0) + 1)
redis.call('HSET', KEYS[2], 'version', string.format('%.0f', version))
local h = redis.call('HMGET', KEYS[2], 'since', 'last_seen')
local code = current == 'online' and 2 or current == 'suspended' and 1 or 0
redis.call('PUBLISH', ARGV[1], ARGV[7] .. string.char(11 * 8) .. varint(sessions) .. fixed64(13, tonumber(h[1]) or time) ..
    varint(22 * 8) .. varint(code) .. fixed64(23, tonumber(h[2]) or 0) .. fixed64(24, version))
return 1
