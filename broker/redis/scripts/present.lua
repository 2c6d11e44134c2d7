-- present.lua: how a user is there. It writes nothing.
-- KEYS: user (a set of sessions), its presence
-- returns {sessions, suspended ones among them, since when ms, last seen ms, version}
local p = redis.call('HMGET', KEYS[2], 'suspended', 'since', 'last_seen', 'version')
local sessions = redis.call('SCARD', KEYS[1])
return {sessions, math.min(tonumber(p[1]) or 0, sessions), tonumber(p[2]) or 0, tonumber(p[3]) or 0, tonumber(p[4]) or 0}
