-- prelude.lua: stands before every script: the clock, positions, and the fields of an envelope that only Redis knows
-- (proto/envelope.proto; a protobuf message may be continued by appending fields).
local function now()
    local t = redis.call('TIME')
    return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function varint(n)
    local s = ''
    while n >= 128 do
        s = s .. string.char(n % 128 + 128)
        n = math.floor(n / 128)
    end
    return s .. string.char(n)
end

local function fixed64(field, n)
    return varint(field * 8 + 1) .. struct.pack('<I8', n)
end

local function text(field, s)
    if s == '' then return '' end
    return varint(field * 8 + 2) .. varint(#s) .. s
end

-- offset, time, prev, tag
local function place(offset, time, prev, tag)
    return fixed64(12, offset) .. fixed64(13, time) .. text(14, prev) .. text(15, tag)
end

local function head(key)
    local h = redis.call('HMGET', key, 'offset', 'tag', 'age')
    return tonumber(h[1]) or 0, h[2] or '', tonumber(h[3]) or 0
end

-- What is done to a session has a number, so that news of it is put in order wherever it arrives: the clock, but never backwards.
local function turn_of(session)
    local turn = math.max(now(), (tonumber(redis.call('HGET', session, 'turn')) or 0) + 1)
    redis.call('HSET', session, 'turn', string.format('%.0f', turn))
    return turn
end

-- A node has got the session with this turn.
local function take(session)
    local turn = turn_of(session)
    redis.call('HSET', session, 'taken', string.format('%.0f', turn))
    return turn
end

-- The fields that name the rooms of a session.
local function add_rooms(answer, session)
    for _, field in ipairs(redis.call('HKEYS', session)) do
        if string.sub(field, 1, 5) == 'room:' then answer[#answer + 1] = field end
    end
    return answer
end
