-- tunnel_offer.lua: the URL of a tunnel is given out.
-- KEYS: what it stands for
-- ARGV: session that will begin, whose it is, for how long the URL is good, ms
redis.call('HSET', KEYS[1], 'session', ARGV[1], 'tunnel', ARGV[2], 'offered_at', now())
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
