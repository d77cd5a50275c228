-- digest: replaces the stored digest by the one that a node computed from its whole list.
-- ARGV[2...]: node, incarnation, rev at which the list was read, digest.
-- Refused: dead, unknown or another incarnation ('FENCED'); the list has changed since ('STATE').
-- Answers: 'OK' | 'FENCED' | 'STATE'.

local node, rev = ARGV[2], ARGV[4]
check()
if not member(node, ARGV[3]) then
    return { 'FENCED' }
end
if rev_of(node) ~= to_integer(rev) then
    return { 'STATE' }
end
redis.call('HSET', of_type(set_key(node), 'hash'), 'rev', rev, 'gap', 0, 'digest', ARGV[5])
return { 'OK' }
