-- settle.lua: gives back a session that due.lua took, unless it has been parked anew meanwhile.
-- KEYS: parked
-- ARGV: session, the score it was taken with, its score from now on (empty: it is parked no more)
-- returns 1 if it was still as taken
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '') ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
return 1
