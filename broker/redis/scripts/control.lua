-- control.lua: what one node wants done with a session, to the inbox of the node that has it.
-- KEYS: session
-- ARGV: what stands before and after a node's name in its inbox channel, envelope
-- returns 1; 0: no such session, 2: nobody has it at the moment, 3: its node does not listen
local s = redis.call('HMGET', KEYS[1], 'node', 'state')
if not s[1] or s[2] == 'ending' then return 0 end
if s[2] == 'parked' then return 2 end
if redis.call('PUBLISH', ARGV[1] .. s[1] .. ARGV[2], ARGV[3]) == 0 then return 3 end
return 1
