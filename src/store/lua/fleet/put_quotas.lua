-- put_quotas: replaces the quotas of the fleet. ARGV[2...]: expected version (-1: any; 0: none were ever
-- set), document. The same document under the version that it would replace changes nothing.
-- Refused: another version.
-- Answers: 'OK', version | 'VERSION'.

local expected, document = tonumber(ARGV[2]), ARGV[3]

local stored = quotas.stored() or { version = 0, was = 0 }
if stored.document == document and
    (expected == -1 or expected == stored.version or expected == stored.was) then
    return { 'OK', stored.version }
end
if expected ~= -1 and expected ~= stored.version then
    return { 'VERSION' }
end
local version = resources.next_revision() -- so that nodes read them
redis.call('SET', quotas.key, string.format('%.0f %.0f\n', version, stored.version) .. document)
return { 'OK', version }
