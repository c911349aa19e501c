// Connections: logins, wire formats, liveness, failover, XA, and a restart of the broker.

#include <activemq/cmsutil/CmsTemplate.h>
#include <activemq/cmsutil/MessageCreator.h>
#include <activemq/core/ActiveMQConnectionFactory.h>
#include <activemq/core/ActiveMQXAConnectionFactory.h>
#include <cms/DestinationSource.h>
#include <cms/EnhancedConnection.h>
#include <cms/ExceptionListener.h>
#include <cms/XAConnection.h>
#include <cms/XAResource.h>
#include <cms/XASession.h>
#include <cms/Xid.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "session.hpp"

namespace {

using Texts = std::vector<std::string>;

const Check metadata{"metadata", [](Session&) {
    Client client;
    same(client.connection->getMetaData()->getCMSProviderName().empty(), false, "whether there is no provider");
}};

const Check refused{"a-wrong-password", [](Session&) {
    activemq::core::ActiveMQConnectionFactory factory(address());
    std::unique_ptr<cms::Connection> connection(factory.createConnection("guest", "wrong"));
    try {
        connection->start();
    } catch (const cms::CMSException&) {
        return;
    }
    throw std::runtime_error("it was taken");
}};

const Check formats{"wire-formats", [](Session& session) {
    for (const char* options : {"?wireFormat.tightEncodingEnabled=false", "?wireFormat.sizePrefixDisabled=false",
                                "?wireFormat.tcpNoDelayEnabled=true", "?connection.alwaysSyncSend=true",
                                "?connection.dispatchAsync=false", "?connection.useAsyncSend=true",
                                "?connection.optimizeAcknowledge=true", "?connection.sendAcksAsync=true",
                                "?transport.commandTracingEnabled=false", "?soKeepAlive=true&tcpNoDelay=true"}) {
        Client client(cms::Session::AUTO_ACKNOWLEDGE, address(options));
        const Queue queue = client.queue(session.queue());
        client.send(*queue, options);
        same(next_text(*client.consumer(*queue)), options, "the body");
    }
}};

const Check idle{"idle-connections-live", [](Session& session) {
    Client client(cms::Session::AUTO_ACKNOWLEDGE, address("?wireFormat.MaxInactivityDuration=1000&wireFormat.MaxInactivityDurationInitalDelay=500"));
    const Queue queue = client.queue(session.queue());
    std::this_thread::sleep_for(std::chrono::milliseconds(3500));
    client.send(*queue, "still there");
    same(next_text(*client.consumer(*queue)), "still there", "the body");
}};

const Check source{"destination-source", [](Session& session) {
    const std::string name = session.queue();
    Client client;
    auto* enhanced = dynamic_cast<cms::EnhancedConnection*>(client.connection.get());
    if (enhanced == nullptr) throw Skipped("limit of the client: it has no list of destinations");
    std::unique_ptr<cms::DestinationSource> known(enhanced->getDestinationSource());
    known->start();
    client.send(*client.queue(name), "x");
    wait_until("the queue is known", [&] {
        bool found = false;
        for (cms::Queue* queue : known->getQueues()) {
            found |= queue->getQueueName() == name;
            delete queue;
        }
        return found;
    });
    known->stop();
    left(name);
}};

const Check cms_template{"cms-template", [](Session& session) {
    activemq::core::ActiveMQConnectionFactory factory(address(), "guest", "guest");
    activemq::cmsutil::CmsTemplate pooled(&factory);
    pooled.setDefaultDestinationName(session.queue());
    pooled.setReceiveTimeout(MILLISECONDS);
    class Creator : public activemq::cmsutil::MessageCreator {
        cms::Message* createMessage(cms::Session* session) override { return session->createTextMessage("one"); }
    } creator;
    pooled.send(&creator);
    const Message message(pooled.receive());
    if (!message) throw std::runtime_error("no message");
    same(text_of(*message), "one", "the body");
}};

/// A branch of a transaction.
class Branch : public cms::Xid {
public:
    explicit Branch(const std::string& name) : name(name) {}

    cms::Xid* clone() const override { return new Branch(name); }
    bool equals(const cms::Xid* other) const override { return id(*other) == name; }
    int getFormatId() const override { return 7; }
    int getBranchQualifier(unsigned char* buffer, int size) const override { return put("1", buffer, size); }
    int getGlobalTransactionId(unsigned char* buffer, int size) const override { return put(name, buffer, size); }

    static std::string id(const cms::Xid& of) {
        unsigned char buffer[64];
        const int length = of.getGlobalTransactionId(buffer, 64);
        return std::string(buffer, buffer + std::max(length, 0));
    }

private:
    static int put(const std::string& text, unsigned char* buffer, int size) {
        std::memcpy(buffer, text.data(), std::min<std::size_t>(text.size(), size));
        return static_cast<int>(text.size());
    }

    std::string name;
};

const Check branches{"xa", [](Session& session) {
    const std::string name = session.queue();
    activemq::core::ActiveMQXAConnectionFactory factory(address());
    std::unique_ptr<cms::XAConnection> connection(factory.createXAConnection("guest", "guest"));
    std::unique_ptr<cms::XASession> xa(connection->createXASession());
    connection->start();
    cms::XAResource* resource = xa->getXAResource();
    const Queue queue(xa->createQueue(name));
    const Producer producer(xa->createProducer(queue.get()));
    for (const char* outcome : {"rolled back", "committed", "at once"}) {
        const Branch branch(unique("xid"));
        resource->start(&branch, cms::XAResource::TMNOFLAGS);
        const std::unique_ptr<cms::TextMessage> message(xa->createTextMessage(outcome));
        producer->send(message.get());
        resource->end(&branch, cms::XAResource::TMSUCCESS);
        if (*outcome != 'a') same(resource->prepare(&branch), cms::XAResource::XA_OK, "the vote");
        if (*outcome == 'r') resource->rollback(&branch);
        else resource->commit(&branch, *outcome == 'a');
    }
    connection->close();
    same(left(name), Texts({"committed", "at once"}), "what was committed");
}};

const Check failover{"failover-to-the-second-host", [](Session& session) {
    Client client(cms::Session::AUTO_ACKNOWLEDGE, "failover:(tcp://127.0.0.1:1," + address() + ")?randomize=false");
    const Queue queue = client.queue(session.queue());
    client.send(*queue, "one");
    same(next_text(*client.consumer(*queue)), "one", "the body");
}};

const Check restart{"restart", [](Session& session) {
    const std::string name = session.queue(), topic_name = session.topic(), id = unique("client");
    const std::string uri = "failover:(" + address() + ")?maxReconnectDelay=200";
    Client client(cms::Session::CLIENT_ACKNOWLEDGE, uri, id), sender(cms::Session::SESSION_TRANSACTED, uri);
    const Queue queue = client.queue(name);
    const Topic topic = client.topic(topic_name);
    const Consumer consumer = client.consumer(*queue);
    const Consumer kept(client.session->createDurableConsumer(topic.get(), "mine", ""));
    sender.send(*queue, Texts{"one", "two"});
    sender.send(*topic, Texts{"three"});
    sender.session->commit();
    same(next_text(*consumer), "one", "the first");
    restart_broker();
    same(texts(*consumer, 2), Texts({"one", "two"}), "what the queue has kept");
    same(next_text(*kept), "three", "what the subscription has kept");
    sender.send(*queue, Texts{"four"});
    sender.session->commit();
    const Message last = next(*consumer, 10000);
    same(text_of(*last), "four", "what comes afterwards");
    last->acknowledge();
    kept->close();
    client.session->unsubscribe("mine");
    client.close();
    same(left(name), Texts(), "what is left");
}, 60};

}  // namespace
