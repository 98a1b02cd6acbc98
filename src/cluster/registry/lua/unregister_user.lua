-- Notes that a user is no longer on a node, unless a newer incarnation of the node has registered the user.
-- Returns the row as it is now: node, incarnation, …
-- KEYS: row of the user. ARGV: node, incarnation, channel and text of the event that the user is offline.
local row = redis.pcall('HGETALL', KEYS[1])
if row.err then return {} end
local rest = {}
for i = 1, #row, 2 do
    if row[i] ~= ARGV[1] or (tonumber(row[i + 1]) or 0) > tonumber(ARGV[2]) then
        table.insert(rest, row[i])
        table.insert(rest, row[i + 1])
    end
end
if #rest < #row then
    redis.call('HDEL', KEYS[1], ARGV[1])
    if #rest == 0 then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
end
return rest
