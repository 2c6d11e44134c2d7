-- read.lua: how far a user has read a room, or his own inbox: asks, or says that he has read on. His sessions hear of it, in the order of his inbox.
-- KEYS: head of the inbox, how far its user has read, and in a cluster one that never exists
-- ARGV: channel of the inbox, room, offset (0: only asked), tag, back (1: it may go back), own (1: the room is the inbox), most rooms, keep ms,
-- mark (1: who asks wants to hear of it though nothing changes), envelope
-- returns {offset, tag}: so far; offset -1: of too many rooms
local head_offset, head_tag = head(KEYS[1])
local time, wanted = now(), tonumber(ARGV[3])
local offset, tag, created = string.match(redis.call('HGET', KEYS[2], ARGV[2]) or '', '^(%d+) (%S+) %d+ (%d+)$')
offset = tonumber(offset) or 0
local born = '0'
if ARGV[6] == '1' then
    -- An inbox that nobody wrote to for long has begun anew, and a failover may have shortened it.
    born = redis.call('HGET', KEYS[1], 'created') or '0'
    if created ~= born or offset > head_offset then offset = 0 end
end
local news = wanted > offset or (ARGV[5] == '1' and wanted > 0 and wanted ~= offset)
if news then
    if not created and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[7]) then return {-1, ''} end
    offset, tag = wanted, ARGV[4]
    redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f %s %.0f %s', offset, tag, time, born))
end
redis.call('PEXPIRE', KEYS[2], ARGV[8])
if offset == 0 then tag = '' end
if news or ARGV[9] == '1' then
    local read = ''
    if offset > 0 then read = varint(26 * 8) .. varint(offset) .. text(27, tag) end
    if not news then read = read .. '\144\1\1' end
    redis.call('PUBLISH', ARGV[1], ARGV[10] .. read .. place(head_offset, time, '', head_tag))
end
return {offset, tag}
