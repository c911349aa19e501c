package main

import (
	"net/url"
	"os"

	rabbithole "github.com/michaelklishin/rabbit-hole/v2"
	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbit-hole, by which Terraform's provider and the operators of Kubernetes manage a RabbitMQ.
var managementChecks = []check{
	{name: "rabbit-hole-overview-and-nodes", run: holeOverview},
	{name: "rabbit-hole-vhosts-users-and-permissions", run: holeUsers},
	{name: "rabbit-hole-queues-exchanges-and-bindings", run: holeTopology},
	{name: "rabbit-hole-policies-and-parameters", run: holePolicies},
	{name: "rabbit-hole-limits", run: holeLimits},
	{name: "rabbit-hole-connections-and-channels", run: holeConnections},
	{name: "rabbit-hole-pages-of-queues", run: holePages},
	{name: "rabbit-hole-definitions", run: holeDefinitions},
	{name: "rabbit-hole-health-checks", run: holeHealth},
	{name: "rabbit-hole-errors-say-why", run: holeErrors},
}

func hole() *rabbithole.Client {
	at, err := url.Parse(os.Getenv("MANAGEMENT_URI"))
	try(err)
	return must(rabbithole.NewClient("http://"+at.Host, "guest", "guest"))
}

func holeOverview(*session) {
	overview := must(hole().Overview())
	equal(overview.Node != "" && overview.ManagementVersion != "", true, "the overview names node and version")
	nodes := must(hole().ListNodes())
	equal(len(nodes), 1, "nodes")
	node := must(hole().GetNode(nodes[0].Name))
	equal(node.IsRunning && node.MemUsed > 0 && node.FdTotal > 0, true, "the node runs, with memory and files")
	equal(must(hole().Whoami()).Name, "guest", "who asks")
}

func holeUsers(*session) {
	client, vhost, user := hole(), unique("vhost"), unique("user")
	must(client.PutVhost(vhost, rabbithole.VhostSettings{Description: "for a test", Tags: rabbithole.VhostTags{"a"}}))
	equal(must(client.GetVhost(vhost)).Description, "for a test", "description")
	must(client.PutUser(user, rabbithole.UserSettings{Password: "p", Tags: rabbithole.UserTags{"management"}}))
	equal(must(client.GetUser(user)).Tags, rabbithole.UserTags{"management"}, "tags")
	must(client.UpdatePermissionsIn(vhost, user, rabbithole.Permissions{Configure: "^c", Write: "^w", Read: "^r"}))
	permissions := must(client.GetPermissionsIn(vhost, user))
	equal([]string{permissions.Configure, permissions.Write, permissions.Read}, []string{"^c", "^w", "^r"}, "permissions")
	must(client.UpdateTopicPermissionsIn(vhost, user, rabbithole.TopicPermissions{Exchange: "amq.topic", Write: "a", Read: "b"}))
	equal(len(must(client.ListTopicPermissionsOf(user))), 1, "topic permissions")
	must(client.ClearPermissionsIn(vhost, user))
	equal(len(must(client.ListPermissionsOf(user))), 0, "permissions that are left")
	must(client.DeleteUser(user))
	must(client.DeleteVhost(vhost))
}

func holeTopology(*session) {
	client, queue, exchange := hole(), unique("queue"), unique("exchange")
	must(client.DeclareQueue("/", queue, rabbithole.QueueSettings{Durable: true, Arguments: map[string]interface{}{"x-max-length": 5}}))
	must(client.DeclareExchange("/", exchange, rabbithole.ExchangeSettings{Type: "topic", Durable: true}))
	response := must(client.DeclareBinding("/", rabbithole.BindingInfo{
		Source: exchange, Destination: queue, DestinationType: "queue", RoutingKey: "a.#",
		Arguments: map[string]interface{}{"x": "y"},
	}))
	equal(response.StatusCode, 201, "status of a new binding")
	bindings := must(client.ListExchangeBindings("/", exchange, rabbithole.BindingSource))
	equal(len(bindings), 1, "bindings")
	// Terraform's provider finds what it has made by the key in the answer.
	key := must(url.QueryUnescape(response.Header.Get("Location")[len(url.QueryEscape(queue))+1:]))
	equal(key, bindings[0].PropertiesKey, "the key in the location")
	found := must(client.GetQueue("/", queue))
	equal(found.Durable && found.Arguments["x-max-length"] == float64(5), true, "the queue is as it was declared")
	equal(must(client.GetExchange("/", exchange)).Type, "topic", "type")
	must(client.DeleteBinding("/", bindings[0]))
	equal(len(must(client.ListExchangeBindings("/", exchange, rabbithole.BindingSource))), 0, "bindings that are left")
	must(client.PurgeQueue("/", queue))
	must(client.DeleteQueue("/", queue))
	must(client.DeleteExchange("/", exchange))
}

func holePolicies(*session) {
	client, vhost := hole(), unique("vhost")
	must(client.PutVhost(vhost, rabbithole.VhostSettings{}))
	policy := rabbithole.Policy{Pattern: "^a", ApplyTo: "queues", Priority: 3, Definition: rabbithole.PolicyDefinition{"max-length": 5}}
	must(client.PutPolicy(vhost, "p", policy))
	equal(must(client.GetPolicy(vhost, "p")).Priority, 3, "priority")
	must(client.PutOperatorPolicy(vhost, "o", rabbithole.OperatorPolicy{
		Pattern: "^a", ApplyTo: "queues", Definition: rabbithole.PolicyDefinition{"expires": 60000},
	}))
	equal(len(must(client.ListOperatorPoliciesIn(vhost))), 1, "operator policies")
	must(client.PutRuntimeParameter("shovel", vhost, "s", map[string]interface{}{"src-uri": "amqp://"}))
	equal(must(client.GetRuntimeParameter("shovel", vhost, "s")).Component, "shovel", "component")
	must(client.PutGlobalParameter("roadstead-test", map[string]interface{}{"a": "b"}))
	must(client.DeleteGlobalParameter("roadstead-test"))
	must(client.DeleteRuntimeParameter("shovel", vhost, "s"))
	must(client.DeletePolicy(vhost, "p"))
	must(client.DeleteOperatorPolicy(vhost, "o"))
	must(client.DeleteVhost(vhost))
}

func holeLimits(*session) {
	client, vhost, user := hole(), unique("vhost"), unique("user")
	must(client.PutVhost(vhost, rabbithole.VhostSettings{}))
	must(client.PutUser(user, rabbithole.UserSettings{Password: "p"}))
	must(client.PutVhostLimits(vhost, rabbithole.VhostLimitsValues{"max-connections": 7}))
	limits := must(client.GetVhostLimits(vhost))
	equal(limits[0].Value["max-connections"], 7, "limit of the vhost")
	must(client.DeleteVhostLimits(vhost, rabbithole.VhostLimits{"max-connections"}))
	must(client.PutUserLimits(user, rabbithole.UserLimitsValues{"max-channels": 7}))
	equal(must(client.GetUserLimits(user))[0].Value["max-channels"], 7, "limit of the user")
	must(client.DeleteUserLimits(user, rabbithole.UserLimits{"max-channels"}))
	must(client.DeleteUser(user))
	must(client.DeleteVhost(vhost))
}

func holeConnections(*session) {
	name := unique("connection")
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(name)
	connection := must(amqp.DialConfig(os.Getenv("AMQP_URI"), amqp.Config{Properties: properties}))
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	must(connection.Channel())
	var found rabbithole.ConnectionInfo
	waitUntil(func() bool {
		for _, one := range must(hole().ListConnections()) {
			if one.ClientProperties["connection_name"] == name {
				found = one
			}
		}
		return found.Name != ""
	}, "the connection is listed")
	equal(found.User == "guest" && found.Vhost == "/", true, "user and vhost")
	own := func(one rabbithole.ChannelInfo) bool { return one.ConnectionDetails.Name == found.Name }
	waitUntil(func() bool {
		for _, one := range must(hole().ListChannels()) {
			if own(one) {
				return true
			}
		}
		return false
	}, "the channel is listed")
	must(hole().CloseConnection(found.Name))
	equal(next(closed, "the end of the connection").Code, 320, "code")
}

func holePages(*session) {
	client, vhost := hole(), unique("vhost")
	must(client.PutVhost(vhost, rabbithole.VhostSettings{}))
	for _, name := range []string{"a", "b", "c"} {
		must(client.DeclareQueue(vhost, name, rabbithole.QueueSettings{Durable: true}))
	}
	page := must(client.PagedListQueuesWithParametersIn(vhost, url.Values{"page": {"2"}, "page_size": {"2"}}))
	equal(page.TotalCount == 3 && page.PageCount == 2 && page.Items[0].Name == "c", true, "the second page has the third queue")
	must(client.DeleteVhost(vhost))
}

func holeDefinitions(*session) {
	client := hole()
	definitions := must(client.ListDefinitions())
	// What this client keeps of permissions does not say where they hold.
	definitions.Permissions, definitions.TopicPermissions = nil, nil
	must(client.UploadDefinitions(definitions))
}

func holeHealth(*session) {
	alarms, local := must(hole().HealthCheckAlarms()), must(hole().HealthCheckLocalAlarms())
	equal(alarms.Ok() && local.Ok(), true, "no alarms")
	expires := must(hole().HealthCheckCertificateExpiration(1, rabbithole.MONTHS))
	equal(expires.Ok(), true, "certificates")
	listener := must(hole().HealthCheckProtocolListener(rabbithole.AMQP))
	equal(listener.Ok(), true, "AMQP is listened to")
	nobody := must(hole().HealthCheckPortListener(1))
	equal(nobody.Ok(), false, "port 1 is not")
}

func holeErrors(*session) {
	_, err := hole().GetQueue("/", unique("missing"))
	refusal, ok := err.(rabbithole.ErrorResponse)
	equal(ok && refusal.StatusCode == 404, true, "a missing queue is not found")
}
