// Queues: who gets what, how it is acknowledged, and transactions.

#include <activemq/core/ActiveMQConnectionFactory.h>
#include <activemq/core/policies/DefaultRedeliveryPolicy.h>
#include <cms/AsyncCallback.h>
#include <cms/MessageListener.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "session.hpp"

namespace {

using Texts = std::vector<std::string>;

const Texts THREE{"0", "1", "2"};

const Check automatic{"ack-auto", [](Session& session) {
    const std::string name = session.queue();
    for (Mode mode : {cms::Session::AUTO_ACKNOWLEDGE, cms::Session::DUPS_OK_ACKNOWLEDGE}) {
        Client client(mode);
        const Queue queue = client.queue(name);
        client.send(*queue, THREE);
        same(texts(*client.consumer(*queue), 3), THREE, "bodies");
        client.close();
        same(left(name), Texts(), "what is left");
    }
}};

const Check by_client{"ack-client", [](Session& session) {
    const std::string name = session.queue();
    Client client(cms::Session::CLIENT_ACKNOWLEDGE);
    const Queue queue = client.queue(name);
    client.send(*queue, THREE);
    const Consumer consumer = client.consumer(*queue);
    next(*consumer);
    next(*consumer)->acknowledge();
    next(*consumer);
    client.close();
    same(left(name), Texts{"2"}, "what is left");
}};

const Check individually{"ack-individual", [](Session& session) {
    const std::string name = session.queue();
    Client client(cms::Session::INDIVIDUAL_ACKNOWLEDGE);
    const Queue queue = client.queue(name);
    client.send(*queue, THREE);
    const Consumer consumer = client.consumer(*queue);
    next(*consumer);
    next(*consumer)->acknowledge();
    next(*consumer);
    client.close();
    same(left(name), Texts({"0", "2"}), "what is left");
}};

const Check recovered{"recover", [](Session& session) {
    Client client(cms::Session::CLIENT_ACKNOWLEDGE);
    const Queue queue = client.queue(session.queue());
    client.send(*queue, THREE);
    const Consumer consumer = client.consumer(*queue);
    texts(*consumer, 3);
    client.session->recover();
    const Message again = next(*consumer);
    same(text_of(*again), "0", "the first again");
    same(again->getCMSRedelivered(), true, "whether it came before");
    same(texts(*consumer, 2), Texts({"1", "2"}), "the others");
}};

const Check given_up{"dead-letters", [](Session& session) {
    activemq::core::ActiveMQConnectionFactory factory(address());
    auto* policy = new activemq::core::policies::DefaultRedeliveryPolicy();
    policy->setMaximumRedeliveries(2);
    policy->setInitialRedeliveryDelay(10);
    factory.setRedeliveryPolicy(policy);
    std::unique_ptr<cms::Connection> connection(factory.createConnection("guest", "guest"));
    std::unique_ptr<cms::Session> transacted(connection->createSession(cms::Session::SESSION_TRANSACTED));
    connection->start();
    Client other;
    const std::string body = unique("body");
    const Queue queue = other.queue(session.queue()), letters = other.queue("ActiveMQ.DLQ");
    other.send(*queue, body);
    const Consumer consumer(transacted->createConsumer(queue.get()));
    for (int round = 0; round < 3; ++round) {
        same(next_text(*consumer), body, "the body");
        transacted->rollback();
    }
    const Consumer dead = other.consumer(*letters);
    while (next_text(*dead) != body) {
        // That of another check.
    }
    connection->close();
}};

const Check transactions{"transactions", [](Session& session) {
    const std::string name = session.queue();
    Client sender(cms::Session::SESSION_TRANSACTED), other;
    const Queue queue = sender.queue(name);
    const Consumer consumer = other.consumer(*queue);
    sender.send(*queue, Texts{"lost"});
    nothing_more(*consumer);
    sender.session->rollback();
    sender.send(*queue, THREE);
    nothing_more(*consumer);
    sender.session->commit();
    same(texts(*consumer, 3), THREE, "what was committed");
    nothing_more(*consumer);
}};

const Check consumed_within{"transactions-with-acks", [](Session& session) {
    const std::string name = session.queue();
    Client client(cms::Session::SESSION_TRANSACTED), other;
    const Queue queue = client.queue(name), results = client.queue(session.queue());
    other.send(*queue, THREE);
    const Consumer consumer = client.consumer(*queue);
    same(texts(*consumer, 2), Texts({"0", "1"}), "the first two");
    client.send(*results, Texts{"never"});
    client.session->rollback();
    const Message again = next(*consumer);
    same(text_of(*again), "0", "the first again");
    same(again->getCMSRedelivered(), true, "whether it came before");
    client.send(*results, Texts{"result"});
    client.session->commit();
    client.close();
    same(left(name), Texts({"1", "2"}), "what is left");
    same(left(results->getQueueName()), Texts{"result"}, "results");
}};

const Check selectors{"selectors", [](Session& session) {
    const std::string name = session.queue();
    Client client;
    const Queue queue = client.queue(name);
    const Consumer heavy = client.consumer(*queue, "weight > 10 AND colour IN ('red', 'blue')");
    for (int weight : {5, 15, 20}) {
        const auto message = client.text(std::to_string(weight));
        message->setIntProperty("weight", weight);
        message->setStringProperty("colour", weight == 20 ? "green" : "red");
        client.send(*queue, *message);
    }
    same(next_text(*heavy), "15", "the body");
    nothing_more(*heavy);
    client.close();
    same(left(name), Texts({"5", "20"}), "what is left");
}};

const Check bad_selector{"a-bad-selector", [](Session& session) {
    Client client;
    const Queue queue = client.queue(session.queue());
    try {
        client.consumer(*queue, "colour = = 1");
    } catch (const cms::CMSException&) {
        client.send(*queue, "still there");
        same(next_text(*client.consumer(*queue)), "still there", "the body");
        return;
    }
    throw std::runtime_error("it was taken");
}};

const Check browser{"browser", [](Session& session) {
    const std::string name = session.queue();
    Client client;
    const Queue queue = client.queue(name);
    Texts bodies;
    for (int number = 0; number < 50; ++number) bodies.push_back(std::to_string(number));
    client.send(*queue, bodies);
    std::unique_ptr<cms::QueueBrowser> looks(client.session->createBrowser(queue.get()));
    cms::MessageEnumeration* found = looks->getEnumeration();
    Texts seen;
    while (found->hasMoreMessages()) {
        const Message message(found->nextMessage());
        if (message) seen.push_back(text_of(*message));
    }
    same(seen, bodies, "what it sees");
    looks->close();
    client.close();
    same(left(name), bodies, "what is still there");
}};

const Check prefetch{"windows", [](Session& session) {
    for (int size : {1, 0}) {
        Client first, second;
        const std::string name = session.queue() + "?consumer.prefetchSize=" + std::to_string(size);
        const Consumer slow = first.consumer(*first.queue(name)), fast = second.consumer(*second.queue(name));
        second.send(*second.queue(name), THREE);
        // What is in the window of the one is not for the other.
        Texts all = texts(*fast, 3 - size);
        nothing_more(*fast);
        for (const std::string& text : texts(*slow, size)) all.push_back(text);
        std::sort(all.begin(), all.end());
        same(all, THREE, "what both got");
    }
}};

class Listener : public cms::MessageListener {
public:
    void onMessage(const cms::Message* message) override {
        bytes += text_of(*message).size();
        ++count;
    }

    std::atomic<int> count{0};
    std::atomic<long> bytes{0};
};

const Check listener{"listeners-of-several-sessions", [](Session& session) {
    Client client;
    const Queue queue = client.queue(session.queue());
    std::vector<std::unique_ptr<cms::Session>> sessions;
    std::vector<Consumer> consumers;
    Listener listener;
    for (int number = 0; number < 4; ++number) {
        sessions.emplace_back(client.connection->createSession());
        consumers.emplace_back(sessions.back()->createConsumer(queue.get()));
        consumers.back()->setMessageListener(&listener);
    }
    Client sender;
    sender.send(*queue, Texts(2000, "0123456789"));
    wait_until("2,000 messages", [&] { return listener.count == 2000; });
    same(listener.bytes.load(), 20000, "bytes");
    client.close();
}};

class Done : public cms::AsyncCallback {
public:
    void onSuccess() override { ++count; }
    void onException(const cms::CMSException&) override { failed = true; }

    std::atomic<int> count{0};
    std::atomic<bool> failed{false};
};

const Check callbacks{"asynchronous-sends", [](Session& session) {
    Client client;
    const Queue queue = client.queue(session.queue());
    Producer producer(client.session->createProducer(queue.get()));
    Done done;
    for (int number = 0; number < 100; ++number) producer->send(client.text("x").get(), &done);
    wait_until("100 answers", [&] { return done.count == 100; });
    same(done.failed.load(), false, "whether one failed");
    same(texts(*client.consumer(*queue), 100).size(), 100u, "messages");
}};

const Check producer_window{"producer-window", [](Session& session) {
    Client client(cms::Session::AUTO_ACKNOWLEDGE, address("?connection.producerWindowSize=4096&connection.useAsyncSend=true"));
    const Queue queue = client.queue(session.queue());
    client.send(*queue, Texts(50, std::string(1000, 'x')));
    same(texts(*client.consumer(*queue), 50).size(), 50u, "messages");
}};

const Check expiry{"time-to-live", [](Session& session) {
    Client client;
    const Queue queue = client.queue(session.queue());
    Producer producer(client.session->createProducer(queue.get()));
    producer->setDeliveryMode(cms::DeliveryMode::NON_PERSISTENT);
    producer->send(client.text("late").get(), cms::DeliveryMode::NON_PERSISTENT, 4, 100);
    producer->send(client.text("stays").get());
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const Consumer consumer = client.consumer(*queue);
    same(next_text(*consumer), "stays", "the body");
    nothing_more(*consumer);
}};

const Check priority{"priority", [](Session& session) {
    Client client(cms::Session::AUTO_ACKNOWLEDGE, address("?connection.messagePrioritySupported=true"));
    const Queue queue = client.queue(session.queue());
    const Consumer consumer = client.consumer(*queue);
    client.connection->stop();
    Producer producer(client.session->createProducer(queue.get()));
    for (int level : {1, 9, 5}) {
        producer->send(client.text(std::to_string(level)).get(), cms::DeliveryMode::PERSISTENT, level, 0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(SHORTLY));
    client.connection->start();
    same(texts(*consumer, 3), Texts({"9", "5", "1"}), "the client's order");
}};

const Check groups{"groups", [](Session& session) {
    Client first, second;
    const Queue queue = first.queue(session.queue());
    const Consumer one = first.consumer(*queue), two = second.consumer(*queue);
    for (int number = 0; number < 4; ++number) {
        for (const char* group : {"a", "b"}) {
            const auto message = first.text(group + std::to_string(number));
            message->setStringProperty("JMSXGroupID", group);
            first.send(*queue, *message);
        }
    }
    std::vector<Texts> got{texts(*one, 4), texts(*two, 4)};
    std::sort(got.begin(), got.end());
    same(got[0], Texts({"a0", "a1", "a2", "a3"}), "the one group");
    same(got[1], Texts({"b0", "b1", "b2", "b3"}), "the other");
}};

const Check exclusive{"an-exclusive-consumer", [](Session& session) {
    const std::string name = session.queue();
    Client first, second;
    const Queue queue = first.queue(name + "?consumer.exclusive=true");
    const Consumer one = first.consumer(*queue), two = second.consumer(*queue);
    second.send(*second.queue(name), THREE);
    same(texts(*one, 3), THREE, "what the first gets");
    first.close();
    second.send(*second.queue(name), "next");
    same(next_text(*two), "next", "what the second gets");
}};

const Check consumer_priority{"consumer-priorities", [](Session& session) {
    const std::string name = session.queue();
    Client client;
    const Consumer low = client.consumer(*client.queue(name + "?consumer.priority=1"));
    const Consumer high = client.consumer(*client.queue(name + "?consumer.priority=9"));
    client.send(*client.queue(name), THREE);
    same(texts(*high, 3), THREE, "what the one of the higher priority gets");
}};

const Check scheduled{"scheduled", [](Session& session) {
    Client client;
    const Queue queue = client.queue(session.queue());
    const Consumer consumer = client.consumer(*queue);
    const auto message = client.text("later");
    message->setLongProperty("AMQ_SCHEDULED_DELAY", 700);
    client.send(*queue, *message);
    nothing_more(*consumer);
    same(next_text(*consumer), "later", "the body");
}};

}  // namespace
