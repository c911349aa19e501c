#include "session.hpp"

#include <activemq/core/ActiveMQConnectionFactory.h>

#include <cstdlib>
#include <thread>

std::string address(const std::string& options) {
    const char* uri = std::getenv("OPENWIRE_URI");
    if (uri == nullptr) throw std::runtime_error("OPENWIRE_URI is not set, e.g. tcp://127.0.0.1:61616");
    return uri + options;
}

Client::Client(Mode mode, const std::string& uri, const std::string& id) {
    activemq::core::ActiveMQConnectionFactory factory(uri);
    connection.reset(factory.createConnection("guest", "guest"));
    if (!id.empty()) connection->setClientID(id);
    session.reset(connection->createSession(mode));
    connection->start();
}

Client::~Client() {
    try {
        close();
    } catch (const std::exception&) {
        // It has ended by itself.
    }
}

void Client::close() {
    if (connection) connection->close();
}

Queue Client::queue(const std::string& name) {
    return Queue(session->createQueue(name));
}

Topic Client::topic(const std::string& name) {
    return Topic(session->createTopic(name));
}

Consumer Client::consumer(const cms::Destination& from, const std::string& selector) {
    return Consumer(session->createConsumer(&from, selector));
}

std::unique_ptr<cms::TextMessage> Client::text(const std::string& body) {
    return std::unique_ptr<cms::TextMessage>(session->createTextMessage(body));
}

void Client::send(const cms::Destination& to, cms::Message& message) {
    Producer producer(session->createProducer(&to));
    producer->send(&message);
}

void Client::send(const cms::Destination& to, const std::string& body) {
    send(to, *text(body));
}

void Client::send(const cms::Destination& to, const std::vector<std::string>& bodies) {
    Producer producer(session->createProducer(&to));
    for (const std::string& body : bodies) producer->send(text(body).get());
}

Message next(cms::MessageConsumer& consumer, int milliseconds) {
    Message message(consumer.receive(milliseconds));
    if (!message) throw std::runtime_error("no message within " + std::to_string(milliseconds) + " ms");
    return message;
}

std::string text_of(const cms::Message& message) {
    const auto* text = dynamic_cast<const cms::TextMessage*>(&message);
    if (text == nullptr) throw std::runtime_error("the message is no text");
    return text->getText();
}

std::string next_text(cms::MessageConsumer& consumer, int milliseconds) {
    return text_of(*next(consumer, milliseconds));
}

std::vector<std::string> texts(cms::MessageConsumer& consumer, int count) {
    std::vector<std::string> out;
    while (count-- > 0) out.push_back(next_text(consumer));
    return out;
}

void nothing_more(cms::MessageConsumer& consumer) {
    const Message message(consumer.receive(SHORTLY));
    if (message) throw std::runtime_error("a message that should not come: " + text_of(*message));
}

std::vector<std::string> left(const std::string& queue) {
    Client client;
    Consumer consumer = client.consumer(*client.queue(queue));
    std::vector<std::string> out;
    while (true) {
        const Message message(consumer->receive(SHORTLY));
        if (!message) return out;
        out.push_back(text_of(*message));
    }
}

void wait_until(const std::string& what, const std::function<bool()>& holds) {
    for (int round = 0; !holds(); ++round) {
        if (round * 20 > MILLISECONDS) throw std::runtime_error("not within 5 s: " + what);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}
