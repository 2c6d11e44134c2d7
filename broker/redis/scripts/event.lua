-- event.lua: something happened to a session: an entry for the backend. What there is no room for any more goes, oldest first.
-- KEYS: events of this shard, their state
-- ARGV: how many are kept, for how long (ms), then fields and values
-- returns the id of the entry
local time = now()
drop_events(KEYS[1], KEYS[2], tonumber(ARGV[1]) - 1, time - ARGV[2], 4)
local id = redis.call('XADD', KEYS[1], '*', 'time', time, unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 2 * ARGV[2]))
return id
