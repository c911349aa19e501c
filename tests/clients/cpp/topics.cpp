// Topics, durable subscriptions, and destinations that are more than one.

#include "session.hpp"

namespace {

using Texts = std::vector<std::string>;

const Check topics{"topics", [](Session& session) {
    Client first, second;
    const Topic topic = first.topic(session.topic());
    const Consumer one = first.consumer(*topic), two = second.consumer(*topic, "colour = 'red'");
    for (const char* colour : {"red", "blue"}) {
        const auto message = first.text(colour);
        message->setStringProperty("colour", colour);
        first.send(*topic, *message);
    }
    same(texts(*one, 2), Texts({"red", "blue"}), "what the one gets");
    same(next_text(*two), "red", "what the other gets");
    nothing_more(*two);
}};

const Check no_local{"no-local", [](Session& session) {
    Client first, second;
    const Topic topic = first.topic(session.topic());
    const Consumer consumer(first.session->createConsumer(topic.get(), "", true));
    first.send(*topic, "own");
    second.send(*topic, "others'");
    same(next_text(*consumer), "others'", "the body");
    nothing_more(*consumer);
}};

const Check patterns{"patterns", [](Session& session) {
    const std::string name = session.topic();
    Client client;
    const Consumer one = client.consumer(*client.topic(name + ".*")), any = client.consumer(*client.topic(name + ".>"));
    for (const char* key : {".a", ".a.b", ".c"}) client.send(*client.topic(name + key), key);
    same(texts(*one, 2), Texts({".a", ".c"}), "one word");
    same(texts(*any, 3), Texts({".a", ".a.b", ".c"}), "any number of words");
    const Message message = (client.send(*client.topic(name + ".a"), "x"), next(*one));
    same(dynamic_cast<const cms::Topic&>(*message->getCMSDestination()).getTopicName(), name + ".a", "destination");
}};

const Check durable{"durable-subscriptions", [](Session& session) {
    const std::string name = session.topic(), id = unique("client");
    Client sender;
    const Topic topic = sender.topic(name);
    {
        Client away(cms::Session::AUTO_ACKNOWLEDGE, address(), id);
        const Consumer consumer(away.session->createDurableConsumer(topic.get(), "mine", "colour = 'red'"));
    }
    for (const char* colour : {"red", "blue"}) {
        const auto message = sender.text(colour);
        message->setStringProperty("colour", colour);
        sender.send(*topic, *message);
    }
    Client back(cms::Session::AUTO_ACKNOWLEDGE, address(), id);
    {
        const Consumer consumer(back.session->createDurableConsumer(topic.get(), "mine", "colour = 'red'"));
        same(next_text(*consumer), "red", "what came in between");
        nothing_more(*consumer);
    }
    back.session->unsubscribe("mine");
    sender.send(*topic, "forgotten");
    const Consumer consumer(back.session->createDurableConsumer(topic.get(), "mine", ""));
    nothing_more(*consumer);
    consumer->close();
    back.session->unsubscribe("mine");
}};

const Check same_client{"the-same-client-id-twice", [](Session&) {
    const std::string id = unique("client");
    Client first(cms::Session::AUTO_ACKNOWLEDGE, address(), id);
    try {
        Client second(cms::Session::AUTO_ACKNOWLEDGE, address(), id);
    } catch (const cms::CMSException&) {
        return;
    }
    throw std::runtime_error("it was taken");
}};

const Check composite{"composite-destinations", [](Session& session) {
    const std::string queue = session.queue(), topic = session.topic();
    Client client;
    const Consumer of_queue = client.consumer(*client.queue(queue)), of_topic = client.consumer(*client.topic(topic));
    client.send(*client.queue(queue + ",topic://" + topic), "both");
    same(next_text(*of_queue), "both", "what the queue gets");
    same(next_text(*of_topic), "both", "what the topic gets");
}};

const Check virtual_topic{"virtual-topics", [](Session& session) {
    const std::string name = "VirtualTopic." + session.topic();
    Client client;
    const Consumer one = client.consumer(*client.queue("Consumer.A." + name));
    const Consumer two = client.consumer(*client.queue("Consumer.B." + name));
    client.send(*client.topic(name), "x");
    same(Texts({next_text(*one), next_text(*two)}), Texts({"x", "x"}), "what both get");
}};

const Check requests{"requests", [](Session& session) {
    Client asks, answers;
    const Queue queue = asks.queue(session.queue());
    const Consumer questions = answers.consumer(*queue);
    const std::unique_ptr<cms::TemporaryQueue> own(asks.session->createTemporaryQueue());
    const Consumer replies = asks.consumer(*own);
    const auto question = asks.text("question");
    question->setCMSReplyTo(own.get());
    asks.send(*queue, *question);
    const Message got = next(*questions);
    const auto answer = answers.text("answer");
    answer->setCMSCorrelationID(got->getCMSMessageID());
    Producer anywhere(answers.session->createProducer());
    anywhere->send(got->getCMSReplyTo(), answer.get());
    const Message reply = next(*replies);
    same(text_of(*reply), "answer", "the answer");
    same(reply->getCMSCorrelationID(), question->getCMSMessageID(), "correlation");
}};

const Check temporary_topic{"temporary-topics", [](Session&) {
    Client first, second;
    const std::unique_ptr<cms::TemporaryTopic> own(first.session->createTemporaryTopic());
    const Consumer consumer = first.consumer(*own);
    Producer anywhere(second.session->createProducer());
    wait_until("the other connection knows of the topic", [&] {
        anywhere->send(own.get(), second.text("x").get());
        const Message message(consumer->receive(SHORTLY));
        return message != nullptr;
    });
}};

const Check deleted{"a-deleted-temporary-queue", [](Session&) {
    Client first, second;
    const std::unique_ptr<cms::TemporaryQueue> own(first.session->createTemporaryQueue());
    Producer anywhere(second.session->createProducer());
    anywhere->send(own.get(), second.text("x").get());
    own->destroy();
    wait_until("sending is refused", [&] {
        try {
            anywhere->send(own.get(), second.text("x").get());
        } catch (const cms::CMSException&) {
            return true;
        }
        return false;
    });
}};

}  // namespace
