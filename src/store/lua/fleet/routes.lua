-- routes: the routes of the fleet.
-- Answers: 'OK', version (0: none were ever set), document ('': none).

local routes = resources.routes()
return { 'OK', routes and routes.version or 0, routes and routes.document or '' }
