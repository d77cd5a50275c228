-- put_resource: creates or changes a sink or a profile of the fleet. ARGV[2...]: 'sinks' or
-- 'profiles', name, expected version (0: any), type, document (opaque), the maximum number of them,
-- and of bytes of all documents (0: any). The same document under the version that it would replace
-- changes nothing.
-- Refused: another version; a resource of another type ('STATE', the type); too many, or too large
-- together ('REFUSED').
-- Answers: 'OK', version, created (1 or 0) | 'VERSION' | 'NOT_FOUND' (a version was expected).

local hash, name, expected = resources.hashes[ARGV[2]], ARGV[3], tonumber(ARGV[4])
local type_of, document = ARGV[5], ARGV[6]
local count_max, bytes_max = tonumber(ARGV[7]), tonumber(ARGV[8])

local resource = resources.of(hash, name)
if not resource and expected ~= 0 then
    return { 'NOT_FOUND' }
end
if resource and resource.type ~= type_of then
    return { 'STATE', resource.type }
end
if resource and resource.document == document and
    (expected == 0 or expected == resource.version or expected == resource.was) then
    return { 'OK', resource.version, 0 }
end
if resource and expected ~= 0 and expected ~= resource.version then
    return { 'VERSION' }
end
if not resource and redis.call('HLEN', hash) >= count_max then
    return { 'REFUSED' }
end
if bytes_max > 0 and resources.bytes_of_others(hash, name) + #document > bytes_max then
    return { 'REFUSED' }
end
local version = resources.next_revision()
resources.write(hash, name, {
    version = version, was = resource and resource.version or 0, type = type_of, document = document,
})
return { 'OK', version, resource and 0 or 1 }
