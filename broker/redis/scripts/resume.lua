-- resume.lua: whoever knows its token gets the session, for the node it has come to. The node that still had it is told through its inbox.
-- KEYS: session
-- ARGV: node, token hash, ttl ms, what stands before and after a node's name in its inbox channel, envelope
-- returns {1, user, connected at, state before, turn, whom it watches, offset, tag, field `room:…` …}; {0}: no such session, {-1}: another token
local s = redis.call('HMGET', KEYS[1], 'token_hash', 'node', 'state', 'user', 'connected_at', 'watch', 'offset', 'tag')
if not s[2] or s[3] == 'ending' then return {0} end
if not s[1] or s[1] == '' or s[1] ~= ARGV[2] then return {-1} end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'state', 'active')
redis.call('HDEL', KEYS[1], 'parked_until')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if s[3] == 'active' and s[2] ~= ARGV[1] then redis.call('PUBLISH', ARGV[4] .. s[2] .. ARGV[5], ARGV[6]) end
return add_rooms({1, s[4] or '', s[5] or '', s[3] or '', take(KEYS[1]), s[6] or '', s[7] or '0', s[8] or ''}, KEYS[1])
