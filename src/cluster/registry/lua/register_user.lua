-- Notes that a user is on a node. Returns the row as it was: node, incarnation, … An incarnation of the
-- same node that is newer than the caller's wins: then nothing is done and false returned. If what is there
-- is no row nothing is done either, and 0 returned.
-- KEYS: row of the user. ARGV: node, incarnation, channel and text of the event that the user is online.
local row = redis.pcall('HGETALL', KEYS[1])
if row.err then return 0 end
for i = 1, #row, 2 do
    if row[i] == ARGV[1] and (tonumber(row[i + 1]) or 0) > tonumber(ARGV[2]) then return false end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if #row == 0 then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return row
