-- mark_leaving: a stopping node accepts no more clients, before it releases its own. ARGV[2...]:
-- node, incarnation.
-- Refused: dead, unknown or another incarnation ('FENCED').
-- Answers: 'OK' | 'FENCED'.

check()
local me = member(ARGV[2], ARGV[3])
if not me then
    return { 'FENCED' }
end
if me.state ~= 'leaving' then
    me.state = 'leaving'
    set_node(me)
end
return { 'OK' }
