-- revoke.lua: tokens that count no longer. What was revoked before stays revoked.
-- KEYS: revocation
-- ARGV: issued before when, s (empty: it is a single token's); until when it is remembered, ms; then fields and values
local time, before, till = now(), tonumber(ARGV[1]), tonumber(ARGV[2])
local old = redis.call('HMGET', KEYS[1], 'before', 'until')
till = math.max(till, tonumber(old[2]) or 0)
redis.call('HSET', KEYS[1], 'at', time, 'until', till, unpack(ARGV, 3))
if before then redis.call('HSET', KEYS[1], 'before', math.max(before, tonumber(old[1]) or 0)) end
redis.call('PEXPIRE', KEYS[1], math.max(till - time, 1))
return 1
